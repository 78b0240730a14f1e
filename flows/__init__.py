"""When, how often, who is told and who must agree: the flows around the line, its record and its report."""
