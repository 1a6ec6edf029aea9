"""One question, one script: `python -m experiments` lists them; lab/ holds what they share."""
