"""Reports: a training run as text, plots, an HTML page, a model card and sample recommendations.

`text.py` renders what the commands print, `html.py` the page `report.html` of a run: start there. Both read
`training.result.TrainingResult` and the evaluations in it.

- `plots.py`, `customer_plots.py`: plots of recommenders and of predictions for customers, as PNG and SVG
- `model_card.py`: the description of a registered version; `samples.py`: recommendations for people to inspect

May import `training.result`, `evaluation`, `customers` and `dataset`; never `tracking`, `promotion` or `train`.
"""
