"""What ``torch.save`` writes: zip archives, and the pickles from before version 1.6."""
