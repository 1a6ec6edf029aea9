import re

from experiments import __main__ as listing


def test_a_line_for_each_experiment_and_what_it_took(capsys):
    listing.main()
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line}
    names = listing.experiments()
    assert {"dead_neurons", "born_dead", "plasticity", "pretrained"} <= set(names)
    for name in names:
        assert "?" in lines[name]
        assert re.search(r"  (\d+|less than 1) min on 2 cores$", lines[name]), name


def test_nothing_is_said_of_a_run_that_is_not_recorded():
    assert listing.took("no_such_experiment") == ""
