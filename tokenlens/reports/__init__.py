"""Reports: one offline HTML page of figures, tables and pictures."""
