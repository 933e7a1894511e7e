import torch
import torch.nn as nn

import fastgru

# Initialize GRU: Input size = 256, Hidden size = 256, 2 Layers
gru = fastgru.GRU(input_size=256, hidden_size=256, num_layers=2, batch_first=True)

# Input tensor: batch_size=4, sequence_length=10, input_size=256
x = torch.randn(4, 10, 256)

# Forward pass
output, hidden = gru(x)

print("Input shape:", x.shape)
print("Output shape:", output.shape)
print("Hidden state shape:", hidden.shape)
