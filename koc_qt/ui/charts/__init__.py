"""Candle charts, equity lines and sparklines. Import modules by name; `chart` brings pyqtgraph, the rest is light."""
