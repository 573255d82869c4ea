"""What exported programs and TorchScript share: operators and torch's own layers told from them."""
