"""A process that has imported everything and forks a child per run, so that a real process costs no start-up.

Speaks JSON lines on stdin and stdout. `{"words": [...], "cwd": ..., "log": ..., "env": {...}, "die": [kind, number]}`
answers `{"pid": ...}` at once; `{"wait": pid}` answers `{"status": exit code, or minus the signal}`. The child runs the
command line with its output in the file `log`; `die` kills it with SIGKILL at the n-th call that touches a file below
runs/ ("call") or at the n-th optimizer step ("step").
"""

import json
import os
import signal
import sys
import traceback

import torch

torch.set_num_threads(1)

import albumentations  # noqa: E402, F401
import matplotlib.pyplot  # noqa: E402, F401
import torch.utils.tensorboard  # noqa: E402

import trainer.experiment.checking  # noqa: E402, F401
from trainer.cli.main import main  # noqa: E402
from trainer.engine.step import Step  # noqa: E402
from trainer.run import resuming  # noqa: E402, F401

CALLS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate", "fcntl.flock")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(kind: str, number: int) -> None:
    left = [number]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            die()

    if kind == "call":
        sys.addaudithook(lambda event, given: count() if event in CALLS and "runs" in str(given[:2]) else None)
    else:
        step = Step.__call__

        def counted(*arguments, **keywords):
            count()
            return step(*arguments, **keywords)

        Step.__call__ = counted


def child(request: dict) -> None:
    code = 70
    try:
        os.chdir(request["cwd"])
        os.environ.update(request.get("env", {}))
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        if "die" in request:
            die_at(*request["die"])
        code = main(request["words"])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = {"status": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        else:
            pid = os.fork()
            if pid == 0:
                child(request)
            answer = {"pid": pid}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    serve()
