"""What a schedule costs: counted, forecast, and as the formulas of papers say."""
