"""How local the effect of an example is: elasticity and Hoeffding parts."""
