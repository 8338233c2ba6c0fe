"""One feature matrix for training and serving: snapshot, visitors, session features, and their assembly."""
