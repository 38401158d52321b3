"""Encryption and signatures: the format of age, the signatures of OpenSSH, and the keys of this machine."""
