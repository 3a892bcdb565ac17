-- Where a document came from and what it was then, so that the same file again changes nothing.
ALTER TABLE documents ADD COLUMN IF NOT EXISTS source_uri text, ADD COLUMN IF NOT EXISTS content_hash text;
