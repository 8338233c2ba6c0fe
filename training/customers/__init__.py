"""Customer predictions: fit and evaluate what is predicted of each customer.

- `fit.py`, to read first: the inputs and labels of customers at every boundary, and the evaluation of propensity, churn
  risk, expected value and next category.
- `propensity.py`: the classifiers of the probability to order, calibrated and tested in time order.

Imports `features` and `models`; no other room of training.
"""
