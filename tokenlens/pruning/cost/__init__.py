"""Cost of a schedule: counted in a run, forecast without one, and by the papers' formulas."""
