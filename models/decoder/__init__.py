"""The caption decoder of the default pack: its data, model, training and export."""
