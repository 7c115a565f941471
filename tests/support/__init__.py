"""What tests share: small models, inputs, schedules, and ways to compare."""
