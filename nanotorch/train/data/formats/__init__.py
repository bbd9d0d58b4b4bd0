"""How the files of tables are unpacked and read."""
