"""Recording what tokens attend to while a model runs, and storing it.

`recording` is the context that users open; `attention_call` takes the rows of one layer's call by
the formula in `attention_weights`; `reading` averages heads and gives them out. `profiling` makes
a `profile` of many samples.
"""
