"""``read_files``: text files and listings below one folder or one S3 prefix.

``paths``   one strict reading of a path
``local``   a folder, opened part by part so that no link is followed
``s3``      a prefix in a bucket
``read``    the tool
"""
