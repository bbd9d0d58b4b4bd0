"""Programs as data for an interpreter that is compiled once per machine (Note [Tables])."""
