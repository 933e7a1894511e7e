"""What a GRU is: its options, its steps, its masks, one layer, the stack, and the definition in plain torch."""
