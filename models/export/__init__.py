"""Model packs from published CLIP-like towers and language models: the parts of models/export.py."""
