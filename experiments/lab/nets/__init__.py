"""Networks, initialisations and losses that several experiments share."""
