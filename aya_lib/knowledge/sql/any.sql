(CASE WHEN strpos({every}::text, '!') > 0 THEN {every} ELSE replace({every}::text, ' & ', ' | ')::tsquery END)
