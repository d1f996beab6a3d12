"""Following: a process that does not write leaves the folder alone, and says only what it alone has to say."""

from trainer.run.following import FollowedFolder, RankLog


def test_lines_that_the_first_process_says_too_are_dropped_and_its_own_are_kept_in_a_file_of_its_own(tmp_path, capsys):
    log = RankLog(3)
    log.log_to(tmp_path / "log.txt")
    log.line("epoch 1/2")
    log.table({"best": "0.9"})
    assert list(tmp_path.iterdir()) == []
    log.say("waiting for process 0, which reads the data on this machine")
    (file,) = tmp_path.iterdir()
    assert file.name == "log-rank3.txt"
    assert file.read_text(encoding="utf-8").endswith(" waiting for process 0, which reads the data on this machine\n")
    assert capsys.readouterr() == ("", "")


def test_a_process_that_cannot_reach_the_folder_says_it_on_the_terminal(tmp_path, capsys):
    log = RankLog(3)
    log.log_to(tmp_path / "on another machine" / "log.txt")
    log.say("left out: a.png")
    assert capsys.readouterr().err == "process 3: left out: a.png\n"


def test_a_followed_folder_is_read_and_never_written(tmp_path):
    (tmp_path / "summary.json").write_text('{"status": "running"}', encoding="utf-8")
    folder = FollowedFolder(tmp_path)
    with folder.locked():
        folder.write_json("summary.json", {"status": "completed"})
        folder.write_text("resolved.yaml", "")
        folder.clear_leftovers()
    folder.discard()
    assert folder.read_json("summary.json") == {"status": "running"}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
