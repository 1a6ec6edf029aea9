from experiments import __main__ as listing


def test_a_line_for_each_experiment_and_what_it_took(capsys):
    listing.main()
    printed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in printed.splitlines() if line}
    for name in (
        "dead_neurons",
        "born_dead",
        "signal_gain",
        "depth_profile",
        "collapse",
        "learning_rate_map",
    ):
        assert "?" in lines[name]
        assert lines[name].endswith("min on 2 cores")


def test_nothing_is_said_of_a_run_that_is_not_recorded():
    assert listing.took("no_such_experiment") == ""
