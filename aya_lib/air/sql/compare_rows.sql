SELECT relation, id, hash FROM ({rows}) AS hashed WHERE relation = {relation} AND id BETWEEN {first} AND {last}
