"""The programs that `benchmarks.job` times: what one would write with each library to train one network on a table."""
