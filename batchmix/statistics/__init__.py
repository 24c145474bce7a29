"""statistics: what arrays of scores say, as pure functions: means, paired differences, tests, trends."""
