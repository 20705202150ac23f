"""One measurement for each claim: what is started, how it is driven, what it must reach."""
