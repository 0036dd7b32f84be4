"""The five sub-networks of DAL and how they are joined (section 3 of the paper)."""
