#!/bin/bash
# A training on a Slurm cluster: sbatch slurm.sh recipe.yaml [key=value ...]
# Every node starts one process per GPU; all of them share every batch. A job that makes room for another, or that comes
# near its time limit, saves its run, is queued again and continues in the same run folder.

#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# The environment that the program is installed in, and the folder in which runs/ lies, which all nodes must see:
# source ~/venv/bin/activate
# cd "$SLURM_SUBMIT_DIR"

recipe=${1:?give a recipe: sbatch slurm.sh recipe.yaml}
shift
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

srun python -m trainer "$recipe" "$@" \
    --processes auto --machines "$SLURM_NNODES" --rendezvous "$head:$port" --wait 600 --max-restarts 3
code=$?

if [ "$code" -eq 143 ]; then # SIGTERM: the run is saved
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
