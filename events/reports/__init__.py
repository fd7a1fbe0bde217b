"""Reports on releases, from the tallies of what users did."""
