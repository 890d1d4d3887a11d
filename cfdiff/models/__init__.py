"""Networks and their checkpoint files: the U-Net, timm classifiers, safetensors with a config inside."""
