"""The report of a run or a comparison: one HTML file, drawn from plain data. Nothing is computed here."""
