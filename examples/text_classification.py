import torch
import torch.nn as nn

import fastgru


class GRUClassifier(nn.Module):
    def __init__(self, vocab_size, embed_dim, hidden_dim, num_classes):
        super(GRUClassifier, self).__init__()
        self.embedding = nn.Embedding(vocab_size, embed_dim)
        # Bidirectional GRU
        self.gru = fastgru.GRU(embed_dim, hidden_dim, batch_first=True, bidirectional=True)
        # The linear layer input dimension is doubled because of bidirectionality
        self.fc = nn.Linear(hidden_dim * 2, num_classes)

    def forward(self, x):
        embedded = self.embedding(x)
        _, hidden = self.gru(embedded)
        # Concatenate the final hidden state of the forward and backward passes
        # hidden[-2] is the last forward hidden state, hidden[-1] is the last backward hidden state
        hidden = torch.cat([hidden[-2], hidden[-1]], dim=1)
        return self.fc(hidden)


# Instantiate model
model = GRUClassifier(vocab_size=10000, embed_dim=128, hidden_dim=128, num_classes=2)

# Dummy input: batch_size=8, sequence_length=50
x = torch.randint(0, 10000, (8, 50))
output = model(x)

print("Input shape:", x.shape, "-> Output shape:", output.shape)
