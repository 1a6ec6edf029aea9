"""What each experiment shows of its rows: tables, plots and the page."""
