"""From findings to changes that are shown to work: applied to a loan, measured again, put back."""
