"""formats: converts and shows values: JSON, Arrow types, dates, amounts, names in messages. Imports no upper room."""
