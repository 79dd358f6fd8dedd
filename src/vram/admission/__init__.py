"""Admission: what a request needs of KV memory, who holds how much of which replica, and who may come next. Pure: time is given."""
