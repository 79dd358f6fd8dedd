"""What each engine says of a batch: scalar rules asked once for each distinct model, weights from the file, arrays over cards."""
