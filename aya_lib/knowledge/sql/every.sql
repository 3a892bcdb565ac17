websearch_to_tsquery(%(language)s::regconfig, %(query)s)
