"""What build.py is made of: the Debian part, the stand-in packages, the archive's indexes and signatures."""
