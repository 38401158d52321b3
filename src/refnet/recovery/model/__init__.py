"""Pure files: values in, values out; `now` is an argument; nothing is read, written or started."""
