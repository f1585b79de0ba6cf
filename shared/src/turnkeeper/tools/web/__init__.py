"""Fetching, and only from addresses that are meant to be reached: ``http_fetch`` from listed hosts, and the contents
that inputs name.

``address``  which addresses are public, whatever form they are written in
``url``      one strict parse of a URL, used for the check and for the connection
``network``  resolve once, check every address, connect to what was checked
``body``     size and decompression limits, charsets
``hops``     a request through all of these, redirects hop by hop
``fetch``    the tool: policy, the answer for the model
``contents`` what inputs name by address
"""
