"""The types of all settings: which keys a section has, and which values a key takes.

The values themselves, and the reasons for them, are in the YAML files beside the code that reads them.
"""
