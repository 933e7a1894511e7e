import torch
import torch.nn as nn
import time

import fastgru

# Configure LSTM and GRU with identical dimensions
lstm = nn.LSTM(256, 256, 1, batch_first=True)
gru = fastgru.GRU(256, 256, 1, batch_first=True)

# Input tensor: batch_size=32, sequence_length=100, input_size=256
x = torch.randn(32, 100, 256)

# Performance benchmark
for model, name in [(lstm, "LSTM"), (gru, "GRU")]:
    start = time.time()
    for _ in range(100):
        _ = model(x)
    print(f"{name} execution time: {time.time() - start:.3f}s")
