"""Records in, tidy tables and numbers with their n and interval out. No I/O, no clock, no global randomness."""
