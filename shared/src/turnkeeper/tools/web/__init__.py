"""``http_fetch``: fetch from listed hosts, and only from addresses that are meant to be reached.

``address``  which addresses are public, whatever form they are written in
``url``      one strict parse of a URL, used for the check and for the connection
``network``  resolve once, check every address, connect to what was checked
``body``     size and decompression limits, charsets
``fetch``    the tool: policy, redirects hop by hop, the answer for the model
"""
