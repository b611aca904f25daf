"""What is cached of customers, vehicles and employees, and how a page gets their names."""
