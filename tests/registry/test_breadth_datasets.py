"""What describe says of datasets that no test opens is what the tests of the datasets do."""

from registry.catalogue.catalog import catalogue


def test_datasets_that_no_test_opens_say_so() -> None:
    from test_datasets_torchvision import ROOTS

    from registry.datasets.torchvision_table import TABLE

    known = catalogue()
    silent = {name for name in TABLE if "not_run" not in known.entry("dataset", name).facts}
    assert silent == set(ROOTS)
