"""What the experiments share: data, the network, the sweep, statistics and the report; one idea a file."""
