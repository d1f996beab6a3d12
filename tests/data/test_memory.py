"""How much memory there is: the least of all limits above the process, and one share of it for all splits."""

import pytest

from trainer.data.memory import Budget, group_limits, physical_memory

UNLIMITED = 9223372036854771712  # what version 1 writes where there is no limit


@pytest.fixture
def limits(tmp_path):
    """Return the limits that made files tell: memberships, mounts (`{}` is the folder), and {file: content}."""

    def told(memberships, mounts, files):
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{content}\n")
        (tmp_path / "cgroup").write_text(memberships)
        (tmp_path / "mountinfo").write_text(mounts.replace("{}", str(tmp_path).replace(" ", "\\040")))
        return sorted(group_limits(tmp_path / "cgroup", tmp_path / "mountinfo"))

    return told


V2 = "31 23 0:26 / {}/v2 rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "36 32 0:33 / {}/memory rw - cgroup cgroup rw,memory\n37 32 0:34 / {}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"


def test_version_2_every_group_from_the_process_to_the_root_counts(limits):
    files = {
        "v2/memory.max": "max",
        "v2/system.slice/memory.max": 3 << 30,
        "v2/system.slice/job.scope/memory.max": "max",
        "v2/system.slice/job.scope/step/memory.high": 3 << 29,
        "v2/other/memory.max": 1,
    }
    assert limits("0::/system.slice/job.scope/step\n", V2, files) == [3 << 29, 3 << 30]


def test_version_1_every_group_from_the_process_to_the_root_counts(limits):
    files = {
        "memory/memory.limit_in_bytes": UNLIMITED,
        "memory/slurm/uid_0/memory.limit_in_bytes": 4 << 30,
        "memory/slurm/uid_0/job_7/memory.limit_in_bytes": 8 << 30,
        "cpu/slurm/memory.limit_in_bytes": 1,
    }
    memberships = "9:cpu,cpuacct:/slurm\n4:memory:/slurm/uid_0/job_7\n1:name=systemd:/\n0::/x\n"
    assert limits(memberships, V1, files) == [4 << 30, 8 << 30, UNLIMITED]


def test_both_versions_at_once(limits):
    files = {"v2/a/memory.max": 5, "memory/b/memory.limit_in_bytes": 7}
    assert limits("4:memory:/b\n0::/a\n", V2 + V1, files) == [5, 7]


@pytest.mark.parametrize("path", ["/docker/abc", "/docker/abc/inner", "/elsewhere", "/../outside"])
def test_in_a_container_the_group_that_is_mounted_is_the_root(limits, path):
    mounts = "36 32 0:33 /docker/abc {}/memory ro - cgroup cgroup rw,memory\n"
    files = {"memory/memory.limit_in_bytes": 6, "memory/inner/memory.limit_in_bytes": 4}
    assert limits(f"4:memory:{path}\n", mounts, files) == ([4, 6] if path.endswith("inner") else [6])


def test_a_mount_point_with_a_space_and_a_group_with_a_colon(limits):
    mounts = V2.replace("/v2", "/a\\040b")
    assert limits("0::/x:y\n", mounts, {"a b/x:y/memory.max": 9}) == [9]


def test_files_that_are_missing_or_odd_are_no_limit(limits, tmp_path):
    assert limits("nonsense\n\n0::/a\n", "nonsense\n1 2 3 - x\n" + V2, {"v2/a/memory.max": "much"}) == []
    assert list(group_limits(tmp_path / "none", tmp_path / "none")) == []


def test_this_machines_memory_is_within_every_limit():
    assert 2**28 < physical_memory() < 2**50
    assert all(physical_memory() <= limit for limit in group_limits())


def test_the_share_is_one_for_all():
    budget = Budget(100)
    assert budget.room_for(50)
    assert not budget.room_for(51)
    budget.take(30)
    assert budget.room_for(20)
    assert not budget.room_for(21)
