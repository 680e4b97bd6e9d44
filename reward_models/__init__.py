"""Multi-axis reward models: what people prefer, learned from few pairwise votes. Imports align, never the other way round."""
